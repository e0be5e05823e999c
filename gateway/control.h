/* The control thread: starts the workers, writes the log, hears signals, hands out new configurations, ends
 * it all. It is the main thread; it never blocks a worker, and no worker waits for it.
 */
#pragma once

#include "gateway/base/config.h"

/* Runs the gateway until SIGTERM. Takes `config` over. Returns the exit code (sysexits). */
int control_run(const char *config_path, struct config *config);
