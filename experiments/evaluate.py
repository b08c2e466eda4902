"""Attacks all trained models of a workdir, and saves what became of each image.

rnascl evaluate --config=digits --workdir=/tmp/digits

The fields config.evaluation.* say which attacks, on how many images and how
strong; they may change between two evaluations of a workdir, and models whose
numbers and files do not depend on the change are left alone:

  --config.evaluation.attacks="('fgsm', 'pgd20_trades')"
  --config.evaluation.auto_attack="('standard',)" or "('apgd_ce', 'square')"
  --config.evaluation.auto_attack_models="('rnas_cl', 'rnas_cl_eq6')"
  --config.evaluation.auto_attack_images=200
  --config.evaluation.epsilon_255=8
  --config.evaluation.norm=L2, with epsilon and curve_epsilons of pixels in
    [0, 1], and with attacks and curve_attacks in this norm
  --config.evaluation.max_images=1000
  --config.evaluation.batch_size=128, if memory runs out
  --config.evaluation.save_images=False, if the disk does

Attacks are the keys of rnascl_jax.attacks.PRESETS; a wrong name lists them. In
digits:autoattack=all, AutoAttack attacks all images of all models.

A run that was stopped (Ctrl-C, SIGTERM) or killed goes on with the same command
and attacks no batch again that it had finished; of AutoAttack, no image in a
trial that it had finished. It leaves in evaluation/:

  <model>.json        accuracies, curves over epsilon, warnings
  <model>.npz         which images are right under each attack
  adversarial/        <model>/<attack>.npz: images that were broken, float32
  journal/            what a run that is not complete has finished

An attack's broken image counts after it was read from its file and found in the
ball, in [0, 1], and misclassified in full float32. The images of curves are not
saved: they are checked in the same way, but in memory.
"""

from rnascl_jax.stages import evaluations, launcher

if __name__ == '__main__':
  launcher.stage(evaluations.evaluate, trains=False)
