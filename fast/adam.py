"""torch.optim.Adam with weight decay, without PyTorch's compiler, which that class imports when it is made: most of a
second of every run. Imports torch."""

import torch
from torch.optim.adam import adam


class Adam:
    """Adam with the weight decay added to the gradient, by the function behind torch.optim.Adam(fused=True).

    It keeps to that class's bits and saved states. state: {parameter: {"step", "exp_avg", "exp_avg_sq"}} of those that
    ever had a gradient.
    """

    def __init__(self, parameters, lr=1e-3, weight_decay=0.0, fused=True):
        self.parameters, self.state, self.betas = list(parameters), {}, (0.9, 0.999)
        self.settings = {"lr": lr, "eps": 1e-8, "weight_decay": weight_decay, "fused": fused}

    def zero_grad(self):
        for W in self.parameters:
            W.grad = None

    @torch.no_grad()
    def step(self):
        """One step of every parameter that has a gradient, by that gradient."""
        moved = [W for W in self.parameters if W.grad is not None]
        for W in moved:
            if W not in self.state:
                self.state[W] = {"step": torch.zeros((), device=W.device),
                                 "exp_avg": torch.zeros_like(W), "exp_avg_sq": torch.zeros_like(W)}
        step, m, v = ([self.state[W][name] for W in moved] for name in ("step", "exp_avg", "exp_avg_sq"))
        adam(moved, [W.grad for W in moved], m, v, [], step, beta1=self.betas[0], beta2=self.betas[1],
             amsgrad=False, maximize=False, **self.settings)

    def state_dict(self):
        return {"state": {i: self.state[W] for i, W in enumerate(self.parameters) if W in self.state},
                "param_groups": [{**self.settings, "betas": self.betas, "params": list(range(len(self.parameters)))}]}

    def load_state_dict(self, saved):
        """The saved moments and numbers of steps; settings stay its own."""
        self.state = {W: {name: value.to(W.device, copy=True) for name, value in saved["state"][i].items()}
                      for i, W in enumerate(self.parameters) if i in saved["state"]}
