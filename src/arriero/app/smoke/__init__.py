"""Acceptance of a gateway: requests as clients send them, judged, with evidence for the files.

`steps` asks, `answers` and `fleet` judge (facts in, findings out, no I/O), `evidence` writes.
Nothing here needs the gateway to be arriero; what only arriero can tell is reported as not
measured for others.
"""
