"""A plugin of tips-bench. `register` is all that tips-bench calls; nothing heavy is imported until an entry is used."""

from pathlib import Path

from tips_bench.plugins import add_cards
from tips_bench.registry import ENCODERS, FAMILIES, METRICS, PROBES, READERS, Family


def register() -> None:
    """Add every part. Each name must be free; a "module:attribute" string is imported when the entry is first used."""
    counts, check = "my_plugin.image_value:ValueCounts", "my_plugin.image_value:check"
    FAMILIES.add("image-value", Family("my_plugin.image_value:ValueAdapter", counts, check))
    READERS.add("value-folder", "my_plugin.image_value:value_folder")
    PROBES.add("mlp", "my_plugin.mlp_probe:MlpProbe")
    METRICS.add("edge-accuracy", "my_plugin.edge_accuracy:EdgeCounts")
    ENCODERS.add("mean-color", "my_plugin.mean_color:MeanColorEncoder")
    add_cards(Path(__file__).parent / "cards")
