from lilliput.optim.recipe import Recipe


def recipe(**changes):
    return Recipe(**{"optimiser": "sgd", "lr": 0.4, "batch": 128, "epochs": 10, "weight_decay": 0.1, **changes})
