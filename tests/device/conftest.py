"""Cards before the host, and the host before everything else; after each test, cards as before."""

from device import host

# isort: split
import gc

import folder_paths
import pytest
import tiny
from device.cards import CARDS, RUNTIME
from device.ledger import LEDGER


@pytest.fixture(scope="session", autouse=True)
def modules():
    """All that lives for as long as the process is no garbage: looking for some is quick then."""
    tiny.pack()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def cards(tmp_path):
    """Fails a test that leaves a race, or anything on a card or pinned once models are unloaded.

    Without garbage collection, which would hide what only cycles hold.
    """
    folder_paths.set_output_directory(str(tmp_path))
    host.unload_all()
    gc.collect()
    gc.disable()
    LEDGER.clear()
    for card in CARDS:
        card.total_bytes, card.fails_at = host.CARD_BYTES, None
        card.allocations, card.peak_bytes = 0, card.used_bytes
    try:
        yield CARDS
        host.unload_all()
        problems = left_behind()
        LEDGER.clear()
    finally:
        gc.enable()
    assert not problems


def left_behind() -> list[str]:
    """Races, and what is still held on a card or pinned."""
    held = [f"{card.used_bytes} bytes on {card.device}" for card in CARDS if card.used_bytes]
    if RUNTIME.pinned_bytes:
        held.append(f"{RUNTIME.pinned_bytes} bytes of pinned memory")
    return LEDGER.races + held
