"""`jaxcg sample` between files: what is read, what is kept of an unfinished run, what is written."""
