"""A fault campaign: what it takes to show that nothing is lost, half done or done twice, whatever breaks meanwhile.

While alerts of several surveys flow through a whole instance, `kinds` are drawn at random and strike every second or
two. Nobody helps, except that ``up`` is called after the supervisor itself was killed. At the end of each round all
must drain; then `checker` compares what Kafka holds with MongoDB and with what SkyPortal's stand-in was given.

- `stage`: the instance, the stand-in for SkyPortal, and the proxies between them.
- `night`: alerts, their truth, and how they get into Kafka.
- `shim`: what is loaded into its processes, so that clocks jump and connections go through proxies.
- `kinds`: what can go wrong, and how each of it is done.
- `campaign`: rounds, and how long each fault takes to heal.
- `checker`, `report`: what has come of it.

``./kowalski.py test --faults --help`` lists the options.
"""
