"""Simple measures of one property each: baselines, and attackers with an honest weakness. uint8 (H, W, 3) -> float."""

import numpy as np


def colourfulness(image: np.ndarray) -> float:
    """Spread plus 0.3 times the mean of the opponent colours red-green and yellow-blue."""
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    opponents = red - green, (red + green) / 2 - blue
    spread = np.hypot(*(plane.std() for plane in opponents))
    mean = np.hypot(*(plane.mean() for plane in opponents))
    return float(spread + 0.3 * mean)
