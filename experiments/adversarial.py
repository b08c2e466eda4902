r"""Trains students further on attacks: eq. (6) of the paper, and its ablations.

  rnascl adversarial --config=digits \
    --workdir=/tmp/digits

needs a workdir with trained students (`rnascl train`; `rnascl pipeline`
runs all stages). For each entry of config.adversarial.students it starts from
the weights of the student that the entry names, trains them on attacks, and
leaves them in adversarial/<name>/, as train/<name>/ holds the student. The
teacher, the tutors and the weights of KL and attention are those of that
student. A run that was stopped goes on with the same command.

By default it is section 3.5 of the paper, 20 epochs of

  L = CAC + TRADES + KL + gamma Attn                                    (eq. 6)

on attacks of 10 steps at radius 0.031, from learning rate 0.004, as in the
authors' code. To change that:

  --config.adversarial.optimization.epochs=40
  --config.adversarial.optimization.learning_rate=0.01
  --config.adversarial.students.rnas_cl_eq6.student=ce
  --config.adversarial.students.rnas_cl_eq6.adversarial_training.epsilon_255=8
  --config.adversarial.students.rnas_cl_eq6.adversarial_training.num_steps=7

The objectives of Table 4, and others, are fields of the entry's method:

  TRADES + CAC        .name=trades                             (the default)
  TRADES              .name=trades  .cac_weight=0
  CAC                 .name=trades  .beta=0
  PGD-AT              .name=pgd     .cac_weight=0
  FastAT, with CAC    .name=fast    .cac_weight=0,  .name=fast
  Free-8, with CAC    .name=free    .cac_weight=0,  .name=free
  MART                .name=mart    .cac_weight=0
  ARD, RSLAD, ...     .name=ard     .cac_weight=0   (beside KL and attention)
  no attack           .name=standard  .cac_weight=0    (as many more epochs)

Several objectives beside each other are several entries of a config file, as in
configs/ablations/objective.py, which makes Table 4. Entries may be added to a
workdir later; one that has begun must not change.

  rnascl pipeline --config=ablations/objective \
    --workdir=DIR

An entry with prune=hydra or prune=magnitude and a sparsity is pruned first, see
docs/adversarial_training.md.

config.adversarial.students={} in a config file leaves the stage out.
"""

from rnascl_jax.stages import launcher, students

if __name__ == '__main__':
  launcher.stage(lambda run: students.train(run, 'adversarial'))
