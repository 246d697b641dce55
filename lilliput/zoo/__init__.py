"""Encoders that come with Lilliput, each a folder with its weights, record, log and card: load_encoder("zoo/NAME")."""

from pathlib import Path

from lilliput.errors import BadData

HOME = Path(__file__).parent


def names() -> list[str]:
    """ "zoo/shufflenet_v2" and so on."""
    return sorted({f"zoo/{file.parent.name}" for file in HOME.glob("*/encoder_*.safetensors")})


def folder(name: str) -> Path:
    """Of one of them; BadData where it is none, with those that there are."""
    if name not in names():
        raise BadData(f"there is no {name}; in the zoo are {', '.join(names()) or 'none'}")
    return HOME / name.removeprefix("zoo/")
