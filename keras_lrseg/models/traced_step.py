"""A step of `fit` under PyTorch without Keras between the operators of the model."""

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx


class TracedStep:
    """A step whose model is run as a graph, noted down once for each shape of images.

    Keras's layers take longer to call one another than a GPU to do what they ask for.
    `torch.compile` does not see through them: it makes many small graphs.

    Args:
        model: an `ImageModel`, built and compiled.
        step: what Keras does with a batch, calling the model in it.
    """

    def __init__(self, model, step):
        self.model = model
        self.step = step
        self.variables = [*model.variables, *model.metrics_variables]
        # Here, not in a call: there mixed precision would make them copies.
        self.values = [variable.value for variable in self.variables]
        self.graphs = {}

    def __call__(self, data):
        self.model.traced_call = self.run_model
        try:
            return self.step(data)
        finally:
            self.model.traced_call = None

    def run_model(self, images):
        """Return what the model gives for images in training, and update its state."""
        images = keras.ops.convert_to_tensor(images)
        key = (tuple(images.shape), images.dtype)
        if key not in self.graphs:
            self.graphs[key] = self._trace(images)
        graph, changed = self.graphs[key]
        outputs, losses, updates = graph(self.values, images)
        self.model.layers[-1].add_loss(losses)  # functional models take none
        with torch.no_grad():
            for i, update in zip(changed, updates, strict=True):
                self.values[i].copy_(update)
        return outputs

    def _trace(self, images):
        changed = []

        def run(values, images):
            with keras.StatelessScope(collect_losses=True) as scope:
                for pair in zip(self.variables, values, strict=True):
                    scope.add_update(pair)  # as they are, not in half precision
                outputs = self.model.call_layers(images, training=True)
            new = [scope.get_current_value(variable) for variable in self.variables]
            changed[:] = [i for i, value in enumerate(values) if new[i] is not value]
            old = set(map(id, values))
            updates = [new[i].clone() if id(new[i]) in old else new[i] for i in changed]
            return outputs, scope.losses, updates

        trace = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)
        try:
            graph = trace(self.values, images)
        except RuntimeError as error:
            raise ValueError(
                f"jit_compile cannot note down {self.model.name}: "
                f"{type(error).__name__} {error}. Leave it out where a layer draws "
                "from a seed of its own or looks at values."
            ) from error
        _keep_constants(graph)
        return graph, changed


def _keep_constants(module):
    """Have constants copied to the device once: a GPU waits for every copy."""
    aten = torch.ops.aten
    kept = {}
    for node in module.graph.nodes:
        source = node.args[0] if node.args else None
        if node.target is aten.lift_fresh_copy.default and source.op == "get_attr":
            value = getattr(module, source.target)
        elif node.target is aten._to_copy.default and source in kept:
            value = kept[source]
        else:
            continue
        if not any(_changes_something(user) for user in node.users):
            kept[node] = node.target(value, **node.kwargs)
    for node, value in kept.items():
        name = f"kept_{node.name}"
        module.register_buffer(name, value)
        with module.graph.inserting_before(node):
            node.replace_all_uses_with(module.graph.get_attr(name))
        module.graph.erase_node(node)
    module.recompile()


def _changes_something(node):
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable
