"""One dataset a file: a module here is a `kind:` of the `data` group by being here."""
