"""What the libraries in PyTorch have in common: inputs and phases."""

from collections.abc import Callable

import torch

from peers import Problem, Workload


def device(name: str) -> torch.device:
    """PyTorch's name for it.

    >>> device("gpu").type
    'cuda'
    """
    return torch.device("cuda" if name == "gpu" else "cpu")


def inputs(problem: Problem) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Features of nodes and edges."""
    torch.manual_seed(0)
    place = device(problem.device)
    if problem.inputs is None:
        wanted = problem.phase == "gradient"
        size = problem.edges.num_nodes, problem.width
        nodes = torch.randn(*size, device=place, requires_grad=wanted)
    else:
        nodes = torch.from_numpy(problem.inputs).to(place)
    if problem.edge_features is None:
        return nodes, None
    return nodes, torch.randn(len(problem.edges.senders), problem.edge_features, device=place)


def workload(
    problem: Problem,
    module: torch.nn.Module,
    forward: Callable[[], torch.Tensor],
    nodes: torch.Tensor,
) -> Workload:
    """The phase asked for, of `forward() -> [N, ...]`."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)
    gpu = problem.device == "gpu"

    def run() -> None:
        optimizer.zero_grad()
        nodes.grad = None
        with torch.set_grad_enabled(problem.phase != "forward"):
            out = forward()
        if problem.phase == "gradient":
            out.backward(torch.ones_like(out))
        if problem.phase == "step":
            out.square().mean().backward()
            optimizer.step()
        if gpu:
            torch.cuda.synchronize()

    return Workload(run, device_bytes=peak_on_gpu() if gpu else None)


def peak_on_gpu() -> Callable[[], int]:
    """The most that is held on the GPU from now on, beside what is held now."""
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return lambda: torch.cuda.max_memory_allocated() - held


def loss_and_gradient(
    module: torch.nn.Module, x: torch.Tensor, loss_of: Callable[[], torch.Tensor]
) -> tuple[Workload, Callable[[], list[float]]]:
    """The loss with its derivatives by parameters and by x, to be timed; and the loss and the norm of x's gradient."""

    def run() -> torch.Tensor:
        module.zero_grad()
        x.grad = None
        loss = loss_of()
        loss.backward()
        return loss

    def values() -> list[float]:
        loss = run().item()
        assert x.grad is not None
        return [loss, x.grad.square().sum().sqrt().item()]

    return Workload(run), values
