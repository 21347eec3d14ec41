"""ComfyUI-RelaxForcing: long video from causal Wan 2.1 models with bounded memory."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Import the nodes only when the host asks for them, so that tools may collect this folder."""
    from .relax_memory.host.oldest import check_host

    check_host()
    from .nodes import RelaxForcingExtension

    return RelaxForcingExtension()
