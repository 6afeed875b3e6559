"""The `lorebase` command in the terminal: one module for each group of commands.

What is asked for goes to standard output, as text for people or, with `--json`, as one line of JSON; progress, notes
and errors go to standard error. Commands know the client (`app.client`) and this room's shared parts: `session` (which
service, with which key), `output`, `failures` (exit codes). None knows what stands behind the routes but
`own_service`, `reindexing`, `backing_up` and `doctor`, which work on a data folder.
"""
