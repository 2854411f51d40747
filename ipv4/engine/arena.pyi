from typing import final

@final
class Arena: ...

@final
class Column: ...
