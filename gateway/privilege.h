/* Being root for as long as it takes. Main thread, before any other thread. */
#pragma once

#include "gateway/base/config.h"

/* As many file descriptors as the system lets us have. */
void privilege_raise_limits(void);

/* Makes data_dir if it is missing, gives it to config->user when we are root, and locks it against a second
 * gateway. The lock lasts as long as the process. 0, or a negative errno: -EWOULDBLOCK when another one runs
 * on it. */
int privilege_data_dir(const struct config *config) __attribute__((warn_unused_result));

/* Becomes config->user, if one is named and we are root. 0 or a negative errno. */
int privilege_drop(const struct config *config) __attribute__((warn_unused_result));
