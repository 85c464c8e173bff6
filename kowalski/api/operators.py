"""Operators that queries may use: those of MongoDB's manual for versions 5 to 8 that only look at the documents there.

Not among them: what runs scripts (``$where``, ``$function``, ``$accumulator``), and what MongoDB keeps for itself
(``$_internal…``). https://www.mongodb.com/docs/manual/reference/operator/
"""

from __future__ import annotations


def _named(words: str) -> frozenset[str]:
    return frozenset(f"${word}" for word in words.split())


CONDITIONS = _named(
    """
    eq ne gt gte lt lte in nin and or nor not exists type expr jsonSchema mod regex options text
    search language caseSensitive diacriticSensitive all elemMatch size bitsAllClear bitsAllSet bitsAnyClear
    bitsAnySet geoIntersects geoWithin near nearSphere box center centerSphere geometry polygon maxDistance
    minDistance uniqueDocs comment rand sampleRate alwaysTrue alwaysFalse ref id slice meta
    """
)
"""Of filters and of the projections of ``find``."""

EXPRESSIONS = _named(
    """
    abs acos acosh add allElementsTrue anyElementTrue arrayElemAt arrayToObject asin asinh atan atan2 atanh
    binarySize bitAnd bitNot bitOr bitXor bsonSize ceil cmp concat concatArrays cond const convert cos
    cosh dateAdd dateDiff dateFromParts dateFromString dateSubtract dateToParts dateToString dateTrunc
    dayOfMonth dayOfWeek dayOfYear degreesToRadians divide exp filter first firstN floor getField hour
    ifNull indexOfArray indexOfBytes indexOfCP isArray isNumber isoDayOfWeek isoWeek isoWeekYear last lastN
    let literal ln log log10 ltrim map max maxN mergeObjects millisecond min minN minute month multiply
    objectToArray pow radiansToDegrees range reduce regexFind regexFindAll regexMatch replaceAll replaceOne
    reverseArray round rtrim second setDifference setEquals setField setIntersection setIsSubset setUnion sin
    sinh sortArray split sqrt strcasecmp strLenBytes strLenCP substr substrBytes substrCP subtract switch
    tan tanh toBool toDate toDecimal toDouble toHashedIndexKey toInt toLong toLower toObjectId toString
    toUpper toUUID trim trunc tsIncrement tsSecond unsetField week year zip
    """
)
"""Of computed fields."""

ACCUMULATORS = _named(
    """
    addToSet avg bottom bottomN count covariancePop covarianceSamp denseRank derivative documentNumber
    expMovingAvg integral linearFill locf median percentile push rank shift stdDevPop stdDevSamp sum top
    topN
    """
)
"""Of groups and windows."""

OPERATORS = CONDITIONS | EXPRESSIONS | ACCUMULATORS
