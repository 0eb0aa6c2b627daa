"""The cheapest path through a cost image from its left side to its right, by dynamic programming.

Bellman (1957); as a model of retinal boundaries: Chiu et al., Optics Express 18 (2010) 19413.
"""

from __future__ import annotations

import numpy as np


def cheapest_path(cost: np.ndarray, step_cost: np.ndarray) -> np.ndarray:
    """Return for each column the row of the path with the smallest total cost.

    The total is the cost of each pixel on the path plus the cost of each step between columns;
    steps longer than K rows are not allowed. All rows (and all P paths) advance together, only
    the columns are visited one after the other.

    Args:
        cost: ``(P, R, C)`` float, finite; P problems that do not know of each other.
        step_cost: ``(2 K + 1,)`` float, cost of going from one column to the next by
            −K … +K rows.

    Returns:
        ``(P, C)`` int rows. Of equally cheap paths, any one.
    """
    problems, rows, columns = cost.shape
    reach = len(step_cost) // 2
    by_column = np.ascontiguousarray(np.moveaxis(cost, -1, 0))  # (C, P, R)
    total = np.full((columns, problems, rows + 2 * reach), np.inf, cost.dtype)
    inner = total[..., reach : reach + rows]  # cheapest way to each row, without the inf margins
    # window[c, p, r, k] is the total at row r + k − K; from there to r is a step of K − k rows,
    # whence the reversal.
    window = np.lib.stride_tricks.sliding_window_view(total, 2 * reach + 1, axis=-1)
    window = np.moveaxis(window, -1, 1)  # (C, 2 K + 1, P, R)
    steps = step_cost[::-1, None, None].astype(cost.dtype)
    inner[0] = by_column[0]
    reached = np.empty((2 * reach + 1, problems, rows), cost.dtype)
    for column in range(1, columns):
        np.add(window[column - 1], steps, out=reached)
        np.minimum.reduce(reached, axis=0, out=inner[column])
        inner[column] += by_column[column]
    came_from = (window[:-1] + steps).argmin(axis=1)  # (C − 1, P, R)
    path = np.empty((problems, columns), np.int64)
    path[:, -1] = inner[-1].argmin(axis=-1)
    each = np.arange(problems)
    for column in range(columns - 1, 0, -1):
        here = path[:, column]
        path[:, column - 1] = here + came_from[column - 1, each, here] - reach
    return path
