"""Static files in production: compressed, under names that change with their content, to be kept for good."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class Storage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # WhiteNoise ships no types
    support_js_module_import_aggregation = True  # what a module imports has such a name, too

    def stored_name(self, name: str) -> str:
        """What was not collected keeps its name: an unstyled page is better than none."""
        try:
            return str(super().stored_name(name))
        except ValueError:
            return name
