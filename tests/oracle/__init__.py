"""A judge of limiters that shares no line with any: it knows what providers charge, and nothing of how calls are
admitted.

`history` has the facts it is told, `providers` the three ways in which a provider counts, `judge` the verdict: every
violation with a proof that can be added up by hand. Times are whole numbers of any one unit (ms, µs); amounts are
whole numbers.
"""
