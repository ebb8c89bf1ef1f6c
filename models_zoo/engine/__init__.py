"""The scoring engine: runs versions over the rows of a corpus and keeps what they say.

Words: a *row source* gives the images of a corpus by row number (`rows`); *scores* are one (class, confidence) per row
of one version (`scores`); a *shard* is a fixed run of consecutive rows, the unit of work that a killed worker may lose;
a *geometry* is what decides the uint8 pixels a network sees: versions of equal geometry share one decode (`run`).

Nothing here imports Django; `scores`, `rows` and `predictions` import no torch either.
"""
