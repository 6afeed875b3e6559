"""The life of a tenant's adapters: answers kept and rated, evaluations, the gate, trials of new versions, erasure.

Knows the tenant's database and the adapter registry; knows no HTTP. Routes speak to it through the workspace.
"""
