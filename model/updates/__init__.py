"""One training algorithm a file: a module here is a `kind:` of the `update` group by being here."""
