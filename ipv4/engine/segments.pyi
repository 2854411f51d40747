from typing_extensions import disjoint_base

from .retry import Transfer

@disjoint_base
class Segments(Transfer):
    @property
    def segmentation(self) -> bool: ...
    @segmentation.setter
    def segmentation(self, value: bool) -> None: ...
