"""After Premier (CVPR 2026) and learn-user-pref (2508.08220): a user is a mixture of learned tokens that users share.

Premier learns an embedding of each user with an adapter of the generator, keeps them apart by a loss, and takes a new
user as a linear combination of those; learn-user-pref has preference tokens that users share in a model that predicts
what they like. Here the shared tokens are the centres of groups of users, k-means++ keeps them apart, and a user is
the nearest mixture to the mean of their pictures (weights at least 0 that sum to 1). It is fitted to the histories of
all users of the run; the generator isn't trained. With as many centres as users it is `mean_style`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.cluster.vq import kmeans2
from scipy.optimize import nnls
from torch import Tensor

from pmg.configuration.ranges import Count, Seed
from pmg.methods.picture_tokens import read_picture_tokens
from pmg.preferences.sources import SourceContext, TokenSource
from pmg.training.visual_inputs import ImageEncoder

SUM = 100.0  # weight of the equation that the shares sum to 1, in lengths of a user's vector


@dataclass(frozen=True)
class SharedTokens(TokenSource):
    """Each user as a mixture of tokens that all users share."""

    image_encoder: ImageEncoder  # encodes pictures as tokens
    shared: Count = 44  # number of shared sets of tokens
    pictures: Count = 12  # most pictures a user
    seed: Seed = 0  # of the groups

    def __call__(self, context: SourceContext) -> Tensor:
        """Returns the tokens of all users, `(U, n, D)`; errors as of picture tokens."""
        read = read_picture_tokens(context, self.image_encoder, self.pictures)
        users = read.user_means(read.vectors, len(context.examples))
        groups = min(self.shared, len(users))
        shared = torch.from_numpy(kmeans2(users.numpy(), groups, iter=50, minit="++", rng=self.seed)[0]).to(users)
        return read.as_tokens(mix(users, shared) @ shared)


def mix(users: Tensor, shared: Tensor) -> Tensor:
    """Returns the weights of the mixture of `shared` `(K, F)` nearest to each user `(U, F)`, `(U, K)`.

    Weights are at least 0 and sum to 1.
    """
    scale = SUM * float(users.norm(dim=1).mean())
    equations = torch.cat([shared.T, torch.full((1, len(shared)), scale)]).double().numpy()
    found = [nnls(equations, torch.cat([user, user.new_tensor([scale])]).double().numpy())[0] for user in users]
    weights = torch.stack([torch.from_numpy(each) for each in found]).float()
    return weights / weights.sum(1, keepdim=True)
