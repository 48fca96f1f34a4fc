"""The troubleshooting table, executed: symptom, cause, evidence and fix.

`asking` and `looking` gather facts, over the network and on this host; the modules `*_rows` make
diagnoses of them, one pure function for each row of the table; `rows` has the table.
"""
