"""Nodes of the pack. They declare inputs, convert them, and call `relax_memory`."""

from comfy_api.latest import ComfyExtension, io

from ..relax_memory.host.keeping.listing import serve_saved
from ..relax_memory.host.steering.routes import serve_steering
from .contact_sheet import RelaxForcingContactSheet
from .decode import RelaxForcingDecode
from .demo_models import RelaxForcingDemoModels
from .direction import RelaxForcingPromptSchedule, RelaxForcingShot
from .load_lora import RelaxForcingLoadLora
from .load_model import RelaxForcingLoadModel
from .memory import MEMORY_NODES
from .plan import RelaxForcingPlan
from .resume import RelaxForcingResume
from .sampler import RelaxForcingSampler, RelaxForcingSamplerSelect
from .saved import RelaxForcingSaved
from .stream import RelaxForcingStream
from .timeline import RelaxForcingTimeline


class RelaxForcingExtension(ComfyExtension):
    async def on_load(self) -> None:
        serve_saved()
        serve_steering()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            RelaxForcingLoadModel,
            RelaxForcingLoadLora,
            *MEMORY_NODES,
            RelaxForcingPromptSchedule,
            RelaxForcingShot,
            RelaxForcingSampler,
            RelaxForcingSamplerSelect,
            RelaxForcingStream,
            RelaxForcingResume,
            RelaxForcingSaved,
            RelaxForcingContactSheet,
            RelaxForcingDecode,
            RelaxForcingPlan,
            RelaxForcingTimeline,
            RelaxForcingDemoModels,
        ]
