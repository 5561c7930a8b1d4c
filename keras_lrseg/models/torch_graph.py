"""A model's call under PyTorch without Keras between its operators."""

import keras
import torch
from torch.fx.experimental.proxy_tensor import make_fx


class TorchGraph:
    """The operators of a call, noted down once for each shape of the images.

    Keras's layers take longer to call one another than a GPU to do what they ask for.
    `torch.compile` does not see through them: it makes many small graphs.

    Args:
        model: built; what of it is trainable stays so.
        call: from images to a structure of tensors, with the model's variables.
    """

    def __init__(self, model, call):
        self.call = call
        self.variables = model.variables
        # Here, not in a call: there mixed precision would make them copies.
        self.values = [variable.value for variable in self.variables]
        self.graphs = {}

    def __call__(self, images):
        key = (tuple(images.shape), images.dtype)
        if key not in self.graphs:
            self.graphs[key] = self._trace(images)
        graph, changed = self.graphs[key]
        outputs, updates = graph(self.values, images)
        with torch.no_grad():
            for i, update in zip(changed, updates, strict=True):
                self.values[i].copy_(update)
        return outputs

    def _trace(self, images):
        changed = []

        def run(values, images):
            with keras.StatelessScope() as scope:
                for pair in zip(self.variables, values, strict=True):
                    scope.add_update(pair)  # as they are, not in half precision
                outputs = self.call(images)
            new = [scope.get_current_value(variable) for variable in self.variables]
            changed[:] = [i for i, value in enumerate(values) if new[i] is not value]
            return outputs, [new[i] for i in changed]

        trace = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)
        graph = trace(self.values, images)
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
