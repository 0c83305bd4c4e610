"""The metrics of the service, as Prometheus reads them.

Each process counts in a sheet of its own, a memory-mapped file in a folder of shared memory: `catalogue` says what is
counted, `sheet` how, `folder` where the files are and whose. `figures` counts what happens in the service's own terms,
`front` and `predictor` are where it happens. `exposition` adds the sheets of all processes up and writes them, for
`route` (METRICS=path) or for `serving`, a process with a port of its own (METRICS=:9100).
"""
