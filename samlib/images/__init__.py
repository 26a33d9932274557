"""Networks on images, trained with SGD or SAM and probed: pairs, photographs, domains (Section 4, Appendix F).

A configuration (`config`) names a data set (`catalogue`); `tiles` and `image_sets` read it, `splits` divides it;
`pairs`, `photographs` and `domains` are the three protocols, on the one loop of `training`.
"""
