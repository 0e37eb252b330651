"""What stands between the gateway and a component: answers again for nothing, and asks with measure.

guard.py      the chain around the call of one component; the only file that the gateway needs
identity.py   what makes two samples the same to a component: the keys of the cache
cache.py      ok scores in memory, disk.py: and on disk
flights.py    identical samples of requests that overlap are scored once
retry.py      failures are tried again, after a random pause
breaker.py    a component that keeps failing is left alone for a while
budget.py     what may be spent within an hour
hedge.py      a second request where the first one is slow
delivery.py   one verdict per sample by the deadline, whatever the wire does

Nothing here knows Ray, HTTP or what a component computes.
"""
