"""Trains the small Wan 2.1 VAE on the small world and writes `demo/models/vae.safetensors`.

The network is the host's own `WanVAE` with few channels. Its latents are brought to the mean and
deviation per channel that the host's Wan 2.1 latent format expects, by folding the difference into
the two 1x1x1 convolutions beside them. At last the decoder learns alone, where outlines weigh more,
first in the wide world and then in the one that models show, mostly from things in dim colours;
latents stay as they are, so a model that was trained on them stays good. `python run.py train vae`
"""

import math
import random
from functools import partial

import torch
from comfy.cli_args import args
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import l1_loss, max_pool2d, mse_loss

args.cpu = not torch.cuda.is_available()  # before the host looks for a GPU

from comfy.latent_formats import Wan21  # noqa: E402
from comfy.ldm.wan.vae import CausalConv3d, WanVAE  # noqa: E402

from lab.training import DEVICE, LOGS, ROOT, Schedule, initialise, train  # noqa: E402
from lab.world import Scene, draw, random_scene  # noqa: E402

VAE = {"dim": 8, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "temperal_downsample": [False, True, True]}
SCHEDULE = Schedule(cycles=(2400, 2600), heights=(1.0, 0.5), learning_rate=2e-3, average_steps=100)
IMAGE_STEPS = 800  # pictures first: where things are is learnt several times faster from them
IMAGES = (16, 1)  # clips in a batch, video frames in a clip
CLIPS = (IMAGES, (8, 5), (5, 9), (3, 13))
LONGEST = 960  # the last moment at which a clip may begin, in video frames
CORNERS_FROM_STEP = 2400  # from here on large errors, which are at corners, weigh more
DECODER_SCHEDULE = Schedule(
    cycles=(1200, 1000), heights=(1.0, 0.5), learning_rate=1e-3, average_steps=100
)
DIM, DIM_OF = ("green", "blue"), 3  # dim colours; of so many scenes the one with most of them
OUTLINE_WEIGHT, OUTLINE_PIXELS = 4.0, 5
LATENT_NOISE = 0.05  # of the deviation of latents, as a model's are never exact
KL_WEIGHT = 4e-5  # of a mean over latents, beside an error that is a mean over pixels
FOLDER = ROOT / "demo/models"
FILE = FOLDER / "vae.safetensors"


@torch.no_grad()
def begin_with_pictures(vae: WanVAE) -> None:
    """Begin as a VAE of single pictures that does nothing in time but drop and repeat frames.

    What pictures teach it is then of use for clips at once. Also begin near a stack of identities,
    with little noise in the latents.
    """
    vae.conv1.bias[VAE["z_dim"] :] = -8.0
    for name, module in vae.named_modules():
        if name.endswith("residual.6"):
            module.weight *= 0.1
        if isinstance(module, CausalConv3d):
            module.weight[:, :, :-1] = 0.0  # taps of the past
        if name.endswith("time_conv"):
            channels = module.weight.shape[1]
            kept = torch.eye(channels).repeat(len(module.weight) // channels, 1)
            module.weight[:, :, -1, 0, 0] = kept.to(module.weight)


def clips(seed: str, count: int, video_frames: int, *, wide: bool = True) -> Tensor:
    """Clips of scenes that depend on `seed` only, `[count, 3, T, H, W]` from -1 to 1."""
    rng = random.Random(seed)
    moments = torch.arange(video_frames)
    scenes = (random_scene(rng, apart=False, wide=True) if wide else dim(rng) for _ in range(count))
    return as_pixels([draw(scene, rng.randrange(LONGEST) + moments) for scene in scenes])


def dim(rng: random.Random) -> Scene:
    """Of a few scenes the one with most things that are hardly brighter than the fields."""
    scenes = [random_scene(rng) for _ in range(DIM_OF)]
    return max(scenes, key=lambda scene: sum(thing.colour in DIM for thing in scene.things))


def as_pixels(frames: list[Tensor]) -> Tensor:
    """What `draw` gives for several scenes as the VAE sees it, `[B, 3, T, H, W]` from -1 to 1."""
    return 2 * torch.stack(frames).movedim(2, 1).to(DEVICE) - 1


def encode(vae: WanVAE, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the latents; the host's `encode` gives the mean only."""
    seen = []
    hook = vae.conv1.register_forward_hook(lambda *call: seen.append(call[-1]))
    vae.encode(video)
    hook.remove()
    mean, log_variance = seen[0].chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 10)


def psnr(error: Tensor) -> float:
    """Decibels, from the mean square error of values from -1 to 1."""
    return 10 * math.log10(4 / error.item())


def loss_of(vae: WanVAE, step: int) -> tuple[Tensor, dict[str, float]]:
    count, video_frames = IMAGES if step < IMAGE_STEPS else CLIPS[step % len(CLIPS)]
    video = clips(f"vae {step}", count, video_frames)
    mean, log_variance = encode(vae, video)
    latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
    decoded = vae.decode(latents)
    kl = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
    error = mse_loss(decoded, video)
    weight = 0.25 if step < CORNERS_FROM_STEP else 1.0
    loss = weight * error + 0.1 * l1_loss(decoded, video) + KL_WEIGHT * kl
    return loss, {"psnr": psnr(error), "kl": kl.item()}


@torch.no_grad()
def to_wan_latents(vae: WanVAE) -> None:
    """Give the latents of the world the statistics of Wan's, without changing a picture."""
    found = torch.cat([vae.encode(clips(f"statistics {n}", 8, 33)) for n in range(32)])
    mean, deviation = found.mean((0, 2, 3, 4)), found.std((0, 2, 3, 4))
    wan = Wan21()
    wanted_mean = wan.latents_mean.flatten().to(DEVICE)
    factor = wan.latents_std.flatten().to(DEVICE) / deviation
    channels = len(mean)
    vae.conv1.weight[:channels] *= factor[:, None, None, None, None]
    vae.conv1.bias[:channels] = (vae.conv1.bias[:channels] - mean) * factor + wanted_mean
    matrix = vae.conv2.weight[:, :, 0, 0, 0] / factor
    vae.conv2.bias += vae.conv2.weight[:, :, 0, 0, 0] @ mean - matrix @ wanted_mean
    vae.conv2.weight[:, :, 0, 0, 0] = matrix


def decoder_loss(vae: WanVAE, step: int) -> tuple[Tensor, dict[str, float]]:
    torch.manual_seed(step)
    wide = step < DECODER_SCHEDULE.cycles[0]
    video = clips(f"decoder {step}", *CLIPS[step % len(CLIPS)], wide=wide)
    with torch.no_grad():
        latents = vae.encode(video)
        deviation = Wan21().latents_std.to(latents)
        latents += LATENT_NOISE * deviation * torch.randn_like(latents)
    errors = (vae.decode(latents) - video).square()
    loss = (errors * (1 + OUTLINE_WEIGHT * contrast(video))).mean()
    return loss, {"psnr": psnr(errors.mean())}


def contrast(video: Tensor) -> Tensor:
    """The range of values around every pixel, a mean over colours: `[B, 1, T, H, W]`, 0 to 2."""
    frames = video.movedim(2, 1).flatten(0, 1)
    brightest, darkest = (
        max_pool2d(sign * frames, OUTLINE_PIXELS, stride=1, padding=OUTLINE_PIXELS // 2)
        for sign in (1, -1)
    )
    spread = (brightest + darkest).mean(1, keepdim=True)
    return spread.unflatten(0, (len(video), -1)).movedim(1, 2)


def save(vae: WanVAE) -> None:
    halves = {key: value.half().cpu().contiguous() for key, value in vae.state_dict().items()}
    save_file(halves, FILE)
    vae.load_state_dict({key: value.float() for key, value in halves.items()})
    with torch.no_grad():
        video = clips("unseen", 16, 33)
        error = mse_loss(vae.decode(vae.encode(video)).clamp(-1, 1), video)
    print(f"Wrote {FILE}; unseen clips: {psnr(error):.1f} dB")


def main() -> None:
    torch.manual_seed(0)
    vae = WanVAE(**VAE).to(DEVICE)
    initialise(vae)
    begin_with_pictures(vae)
    FOLDER.mkdir(exist_ok=True)
    log = LOGS / "vae_training.jsonl"
    weights = train(vae, partial(loss_of, vae), name="vae", schedule=SCHEDULE, log=log)
    vae.load_state_dict(weights)
    to_wan_latents(vae)
    save(vae)
    decoder = nn.ModuleDict({"decoder": vae.decoder, "conv2": vae.conv2})
    weights = train(
        decoder,
        partial(decoder_loss, vae),
        name="vae_decoder",
        schedule=DECODER_SCHEDULE,
        log=LOGS / "vae_decoder_training.jsonl",
    )
    decoder.load_state_dict(weights)
    save(vae)


if __name__ == "__main__":
    main()
