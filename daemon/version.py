"""Which release this is."""

from importlib import metadata


def release() -> str:
    """The version of the installed package, or `checkout` when it runs from its sources alone."""
    try:
        return metadata.version("plora")
    except metadata.PackageNotFoundError:
        return "checkout"
