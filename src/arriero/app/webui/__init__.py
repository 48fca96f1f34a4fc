"""Moving Open WebUI to the gateway and back: canary, promote, rollback, by its admin API.

One idea carries all of it. `state` is what Open WebUI has now of the things we touch, `desired`
makes of it the state that is wanted, `changes` is the difference of two states as a list of calls.
A second canary finds no difference; a rollback is the difference to the snapshot.
"""
