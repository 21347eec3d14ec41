"""How latent frames lie on a video: channels, pixels and video frames, in one place.

Knows no model; `host/model/family.py` asks the host for that of a model.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What one latent stands for; by default in Wan 2.1.

    The first latent frame of a video is one video frame, every later one `video_frames`.
    """

    channels: int = 16
    pixels: int = 8  # along a side of a latent
    patch: int = 2  # latents along a side of a token
    video_frames: int = 4
    fps: float = 16.0  # at which things move at a natural speed

    @property
    def multiple(self) -> int:
        """Pixels of which width and height must be multiples."""
        return self.pixels * self.patch

    def latent_frames(self, length: int) -> int:
        """Latent frames of the longest video of whole ones in `length` video frames."""
        return (length - 1) // self.video_frames + 1

    def length(self, latent_frames: int) -> int:
        """Video frames of the first `latent_frames` of a video."""
        return self.video_frames * (latent_frames - 1) + 1 if latent_frames else 0

    def seconds(self, latent_frames: float) -> float:
        """How long latent frames after the first one last."""
        return latent_frames * self.video_frames / self.fps

    def latent_size(self, width: int, height: int) -> tuple[int, int]:
        """Height and width of the latents of a picture."""
        return height // self.pixels, width // self.pixels


WAN = Grid()
