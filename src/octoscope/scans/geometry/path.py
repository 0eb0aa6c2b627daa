"""The cheapest path, or pair of paths, through cost images, by dynamic programming.

Bellman (1957). As a model of one retinal boundary: Chiu et al., Optics Express 18 (2010) 19413;
of several at once, with their order kept: Garvin et al., IEEE TMI 28 (2009) 1436, there by graph
cuts. A path crosses all columns from left to right; a step of k rows between two columns costs
``step_cost[k + K]``, and steps longer than K rows are not allowed.
"""

from __future__ import annotations

import numpy as np


def cheapest_path(cost: np.ndarray, step_cost: np.ndarray) -> np.ndarray:
    """Return for each column the row of the path with the smallest total cost.

    All rows (and all P problems) advance together, only columns are visited one by one.

    Args:
        cost: ``(P, R, C)`` float, finite; P problems that do not know of each other.
        step_cost: ``(2 K + 1,)`` float, cost of a step by −K … +K rows.

    Returns:
        ``(P, C)`` int rows. Of equally cheap paths, any one.
    """
    problems, rows, columns = cost.shape
    reach = len(step_cost) // 2
    by_column = np.ascontiguousarray(np.moveaxis(cost, -1, 0))  # (C, P, R)
    total = np.full((columns, problems, rows + 2 * reach), np.inf, cost.dtype)
    inner = total[..., reach : reach + rows]  # cheapest way to each row, without the inf margins
    # window[c, j, p, r] is the total at row r + j − K; from there to r is a step of K − j rows,
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


def cheapest_pair(
    upper: np.ndarray, lower: np.ndarray, pair: np.ndarray, step_cost: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the two paths with the smallest total cost, found together.

    The state of a column is the pair (row of the upper path, row of the lower path), R² states;
    steps of the two paths are taken one after the other, which keeps a column at 2 (2 K + 1) R²
    additions.

    Args:
        upper: ``(R, C)`` float, cost of the upper path's pixels.
        lower: ``(R, C)`` float, cost of the lower path's pixels.
        pair: ``(R, R)`` float, cost of the upper path in row i and the lower in row j of a column;
            a large value forbids a pair (an order, a least distance).
        step_cost: ``(2 K + 1,)`` float, cost of a step by −K … +K rows; symmetric.

    Returns:
        ``(C,)`` int rows of the upper path, and of the lower.
    """
    rows, columns = upper.shape
    reach = len(step_cost) // 2
    size = 2 * reach + 1
    pixel = upper.T[:, :, None] + lower.T[:, None, :]  # (C, R, R)
    total = np.full((columns, rows + 2 * reach, rows + 2 * reach), np.inf, upper.dtype)
    inner = slice(reach, reach + rows)
    total[0, inner, inner] = pixel[0] + pair
    one = np.empty((rows, rows + 2 * reach), upper.dtype)
    both = np.empty((rows, rows), upper.dtype)
    trial_one, trial_both = np.empty_like(one), np.empty_like(both)
    for column in range(1, columns):
        before = total[column - 1]
        np.copyto(one, before[reach : reach + rows])
        for k in range(1, reach + 1):
            up, down = before[reach - k : reach - k + rows], before[reach + k : reach + k + rows]
            np.minimum(up, down, out=trial_one)
            trial_one += step_cost[reach + k]
            np.minimum(one, trial_one, out=one)
        np.copyto(both, one[:, inner])
        for k in range(1, reach + 1):
            up, down = one[:, reach - k : reach - k + rows], one[:, reach + k : reach + k + rows]
            np.minimum(up, down, out=trial_both)
            trial_both += step_cost[reach + k]
            np.minimum(both, trial_both, out=both)
        both += pixel[column]
        np.add(both, pair, out=total[column, inner, inner])
    steps = step_cost[:, None] + step_cost[None, :]
    path = np.empty((2, columns), np.int64)
    path[:, -1] = np.unravel_index(total[-1, inner, inner].argmin(), (rows, rows))
    for column in range(columns - 1, 0, -1):
        i, j = path[:, column]
        around = total[column - 1, i : i + size, j : j + size] + steps
        path[:, column - 1] = path[:, column] + divmod(int(around.argmin()), size)
        path[:, column - 1] -= reach
    return path[0], path[1]
