"""Requests and answers as the documentation shows them; the tests send every one of these requests."""

from __future__ import annotations

from typing import Any

LOGIN = {"login": {"username": "vera", "password": "a long password"}}
TOKEN = {
    "status": "success",
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.Et9HFtf9R3GEMA0IICOfFMVXY7kkTX1wr4qCyhIf58U",
}

NEW_USER = {
    "user": {"username": "vera", "password": "a long password", "email": "vera@example.org"},
    "partner": {"username": "henrietta", "password": "a long password", "permissions": {"ZTF": [1, 2]}},
    "admin": {"username": "cecilia", "password": "a long password", "role": "admin"},
}
USER_CHANGE = {
    "password": {"password": "another long password"},
    "permissions": {"permissions": {"ZTF": [1, 2, 3]}},
    "name": {"username": "vera.rubin"},
}
USERS = {
    "status": "success",
    "message": "1 users",
    "data": [
        {
            "username": "vera",
            "email": "vera@example.org",
            "permissions": {"ZTF": [1, 2]},
            "role": "user",
            "last_modified": "2026-03-01T20:15:30Z",
        }
    ],
}

POSITIONS = {"M31": [10.684708, 41.26875], "M33": ["01:33:50.9", "+30:39:36.8"]}


def _query(kind: str, query: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    return {"query_type": kind, "query": query, "kwargs": kwargs}


QUERIES = {
    "find": _query(
        "find",
        {
            "catalog": "ZTF_alerts",
            "filter": {"candidate.drb": {"$gt": 0.9}, "candidate.magpsf": {"$lt": 18}},
            "projection": {"_id": 0, "candid": 1, "objectId": 1, "candidate.jd": 1, "candidate.magpsf": 1},
        },
        sort=[["candidate.jd", -1]],
        limit=10,
        max_time_ms=10000,
    ),
    "find_one": _query("find_one", {"catalog": "ZTF_alerts", "filter": {"candid": 2486170624415015043}}),
    "count_documents": _query("count_documents", {"catalog": "ZTF_alerts", "filter": {"candidate.drb": {"$gt": 0.9}}}),
    "estimated_document_count": _query("estimated_document_count", {"catalog": "ZTF_alerts"}),
    "aggregate": _query(
        "aggregate",
        {
            "catalog": "ZTF_alerts",
            "pipeline": [
                {"$match": {"candidate.drb": {"$gt": 0.9}}},
                {"$group": {"_id": "$objectId", "detections": {"$sum": 1}, "brightest": {"$min": "$candidate.magpsf"}}},
                {"$sort": {"brightest": 1}},
                {"$limit": 10},
            ],
        },
    ),
    "cone_search": _query(
        "cone_search",
        {
            "object_coordinates": {"radec": POSITIONS, "cone_search_radius": 2, "cone_search_unit": "arcsec"},
            "catalogs": {"ZTF_alerts": {"filter": {}, "projection": {"_id": 1, "objectId": 1}}},
        },
    ),
    "near": _query(
        "near",
        {
            "radec": POSITIONS,
            "max_distance": 30,
            "distance_units": "arcsec",
            "catalogs": {"ZTF_alerts": {"projection": {"_id": 1, "objectId": 1}}},
        },
        limit=1,
    ),
    "skymap": _query(
        "skymap",
        {
            "skymap": {
                "localization_name": "90.00000_30.00000_10.00000",
                "dateobs": "2023-06-23T15:42:26",
                "contour": 90,
            },
            "catalog": "ZTF_alerts",
            "filter": {"candidate.jd": {"$gt": 2460119.15, "$lt": 2460122.15}},
            "projection": {"_id": 0, "candid": 1, "objectId": 1},
        },
    ),
    "info": _query("info", {"command": "catalog_names"}),
    "drop": _query("drop", {"catalog": "obsolete_catalog"}),
}
FOUND = {
    "status": "success",
    "message": "Successfully executed query",
    "data": [
        {
            "candid": 2486170624415015043,
            "objectId": "ZTF23abcdefg",
            "candidate": {"jd": 2460230.6706245, "magpsf": 17.52},
        }
    ],
}

TABLE = "name,ra,dec\nM31,10.684708,41.26875\nM33,01:33:50.9,+30:39:36.8\n"
MATCHED = {
    "status": "success",
    "message": "Successfully executed query",
    "data": [
        {
            "row": 0,
            "id": "M31",
            "ra": 10.684708,
            "dec": 41.26875,
            "separation": 0.27,
            "match": {"_id": "ZTF23abcdefg", "candidate": {"magpsf": 17.52}},
        }
    ],
}

PIPELINE = [
    {"$match": {"candidate.drb": {"$gt": 0.9}, "classifications.braai": {"$gt": 0.9}}},
    {"$project": {"_id": 0, "candid": 1, "objectId": 1, "annotations.magpsf": "$candidate.magpsf"}},
]
NEW_FILTER = {
    "filter": {
        "group_id": 1,
        "filter_id": 1,
        "catalog": "ZTF_alerts",
        "permissions": [1, 2],
        "pipeline": PIPELINE,
    },
    "autosave": {
        "group_id": 1,
        "filter_id": 1,
        "catalog": "ZTF_alerts",
        "permissions": [1, 2],
        "pipeline": PIPELINE,
        "autosave": {"active": True, "comment": "bright and real"},
    },
}
FILTER_CHANGE = {
    "off": {"filter_id": 1, "active": False},
    "autosave": {"filter_id": 1, "autosave": {"active": True, "comment": "bright and real"}},
}
VERSION = {"fid": "r7zdxy", "pipeline": "[…]", "created_at": {"$date": "2026-03-01T20:15:30Z"}}
SAVED = {"status": "success", "message": "pipeline is valid\nsaved new filter version: r7zdxy", "data": VERSION}
FILTER = {
    "status": "success",
    "message": "Retrieved filter id 1",
    "data": {
        "group_id": 1,
        "filter_id": 1,
        "catalog": "ZTF_alerts",
        "permissions": [1, 2],
        "active": True,
        "autosave": False,
        "auto_followup": {},
        "update_annotations": False,
        "active_fid": "r7zdxy",
        "fv": [VERSION],
    },
}
FILTER_TEST = {
    "objects": {"object_ids": ["ZTF23abcdefg"]},
    "day": {"start_date": 2460229.5, "end_date": 2460230.5, "max_time_ms": 60000},
}
DRY_RUN = {"last night": {}, "night": {"night": "2023-10-12", "max_time_ms": 60000}}
