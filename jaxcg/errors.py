"""Exceptions a user can meet. Every message says what is wrong, where, and what to do, in one line."""


class JaxcgError(Exception):
    """Base of every error jaxcg raises on purpose."""


class InputError(JaxcgError):
    """The input cannot be used as it is (a file, a name, a number). The command line exits with code 2."""


class ResultError(JaxcgError):
    """A run ended without a usable result. The command line writes its report and exits with code 3."""
