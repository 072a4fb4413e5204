"""What the arguments of a Serve config file make of the trainer's two applications, on a machine without a GPU."""

from pathlib import Path

import pytest
import yaml

from daemon.trainer import build_predictor, build_trainer, local_share
from daemon.trainer_order import TrainerOrder, WrongOrder, order_of


def test_what_is_asked_of_a_gpu_is_asked_of_ray_whatever_this_machine_has():
    given = {"device": "cuda", "gpu_share": "0.5", "cpus": 4, "replicas": 3, "predictors": "2"}
    for build, replicas in ((build_trainer, 3), (build_predictor, 2)):
        deployment = build(given)._bound_deployment
        assert deployment.ray_actor_options == {"num_cpus": 4, "num_gpus": 0.5}
        assert deployment.num_replicas == replicas


def test_without_a_share_no_gpu_is_asked_for():
    assert build_trainer({})._bound_deployment.ray_actor_options == {"num_cpus": 1}
    assert local_share(TrainerOrder(device="cpu")) == 0


def test_trainers_scale_between_two_numbers_and_predictors_do_not():
    given = {"replicas": 2, "most_replicas": 6}
    scaling = build_trainer(given)._bound_deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas) == (2, 6)
    assert build_predictor(given)._bound_deployment._deployment_config.autoscaling_config is None
    assert build_trainer({"replicas": 2, "most_replicas": 2})._bound_deployment.num_replicas == 2


def test_the_args_that_the_chart_writes_are_taken():
    kept = Path(__file__).parents[2] / "chart" / "arrival" / "serve.yaml"
    trainer, predictor = yaml.safe_load(kept.read_text())["applications"]
    order = order_of(trainer["args"])
    assert (order.replicas, order.most_replicas, order.device) == (1, 2, "cpu")
    assert order_of(predictor["args"]).predictors == 1
    assert trainer["import_path"] == f"{build_trainer.__module__}:{build_trainer.__name__}"
    assert predictor["import_path"] == f"{build_predictor.__module__}:{build_predictor.__name__}"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            {"replicaz": 1},
            "'replicaz' of the trainer's arguments must be left out: there is none of that name, but rep",
        ),
        ({"replicas": "two"}, "'replicas' of the trainer's arguments must be a valid integer"),
        ({"kind": "regression"}, "'kind' of the trainer's arguments must be 'classification' or 'causal-lm'"),
        ({"gpu_share": 1.5}, "'gpu_share' of the trainer's arguments must be from 0 to 1"),
        ({"device": "cuda:0"}, "'gpu_share' of the trainer's arguments must be above 0 on cuda:0"),
        ({"replicas": 3, "most_replicas": 2}, "'most_replicas' of the trainer's arguments must be 0, or 3 or more"),
        ({"threads": 0}, "'threads' of the trainer's arguments must be 1 or more"),
    ],
)
def test_what_no_trainer_can_be_is_refused_by_name(args, said):
    with pytest.raises(WrongOrder) as refused:
        order_of(args)
    assert str(refused.value).startswith(said)
