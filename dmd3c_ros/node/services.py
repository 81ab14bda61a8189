"""The services that every node has, where rclpy's own way would stop the node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future

Plan = Callable[[Sequence[Parameter]], Callable[[], None] | None]


def answer_every_transition(node: LifecycleNode) -> None:
    """Answer a transition that the present state does not have with `success` false.

    rclpy raises an error there, which ends the node.
    """
    for service in node.services:
        if service.srv_type is ChangeState:
            service.callback = _answering(service.callback, node)


def _answering(change: Callable, node: LifecycleNode) -> Callable:
    def answer(request: ChangeState.Request, response: ChangeState.Response):
        try:
            return change(request, response)
        except RuntimeError as error:
            node.get_logger().warning(f'life cycle: {error}')
            response.success = False
            return response

    return answer


def prepare_in_thread(node: Node, plan: Plan) -> None:
    """Before a service sets parameters, do the slow part of the change in a thread.

    plan: given the parameters, returns that work, which raises nothing, or None. Callbacks in
    groups other than that of the services keep running meanwhile.
    """
    for service in node.services:
        if service.srv_type is SetParameters:
            service.callback = _one_by_one(service.callback, node, plan)
        elif service.srv_type is SetParametersAtomically:
            service.callback = _together(service.callback, node, plan)


def _one_by_one(set_parameters: Callable, node: Node, plan: Plan) -> Callable:
    async def answer(request: SetParameters.Request, response: SetParameters.Response):
        results = []
        for parameter in request.parameters:
            await _prepared(node, plan, [parameter])
            single = SetParameters.Request(parameters=[parameter])
            results += set_parameters(single, SetParameters.Response()).results
        response.results = results
        return response

    return answer


def _together(set_parameters: Callable, node: Node, plan: Plan) -> Callable:
    async def answer(request: SetParametersAtomically.Request, response):
        await _prepared(node, plan, request.parameters)
        return set_parameters(request, response)

    return answer


async def _prepared(node: Node, plan: Plan, messages: Sequence) -> None:
    work = plan([Parameter.from_parameter_msg(message) for message in messages])
    if work is None:
        return
    executor = node.executor
    done = Future(executor=executor)

    def run() -> None:
        try:
            work()
        except BaseException as error:
            # Raised where it is awaited: otherwise no service would ever be answered again.
            done.set_exception(error)
        else:
            done.set_result(None)
        # A waiting coroutine continues when the executor checks it.
        executor.wake()

    threading.Thread(target=run, name='loading', daemon=True).start()
    await done
