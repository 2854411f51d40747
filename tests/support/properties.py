"""hypothesis, or where this interpreter has none, stand-ins that skip its tests one by one."""

import pytest

try:
    from hypothesis import example, given, settings
    from hypothesis import strategies as st
except ImportError:

    class _Anything:
        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self

        def __call__(self, *_args, **_kwargs):
            return self

        __or__ = __call__

    st = _Anything()

    def given(*_args, **_kwargs):
        return pytest.mark.skip(reason="hypothesis is not to be had for this interpreter")

    def example(*_args, **_kwargs):
        return lambda test: test

    def settings(*_args, **_kwargs):
        return lambda test: test

    settings.register_profile = settings.load_profile = settings

__all__ = ["example", "given", "settings", "st"]
