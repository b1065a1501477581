"""The settings that are in force on this host, and where each has its value from, for the commands."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

from popad.commands import units
from popad.commands.settings_file import SettingsFile
from popad.configuration import CONFIGURATION
from popad.errors import SettingWrong
from popad.settings import PREFIX, Settings


class Effective:
    """The settings of the unit in use, above it popad.conf, above that the command's own environment."""

    def __init__(self, environ: "Mapping[str, str]") -> None:
        self.unit, self.own = units.settings_in_use()
        self.file = SettingsFile(CONFIGURATION)
        self.given = {name: value for name, value in environ.items() if name.startswith(PREFIX)}
        self.values = self.own | self.file.values | self.given
        self.unusable: list[SettingWrong] = []  # in whose place the settings have the defaults
        self.settings = Settings(self.values, self.unusable)

    def source(self, name: str) -> str:
        """Where a setting has its value from."""
        sources = {"environment": self.given, CONFIGURATION: self.file.values, self.unit: self.own}
        return next((source for source, there in sources.items() if name in there), "default")
