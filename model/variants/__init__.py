"""One architecture a file: a module here is a `kind:` of the `model` group by being here."""
