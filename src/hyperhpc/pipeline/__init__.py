"""From a scene to results: plan, passes over the tiles, models, folders."""
