/* SPDX-License-Identifier: 0BSD */
/* The fronts of both versions of Multiboot. */
#ifndef MULTIBOOT_H
#define MULTIBOOT_H

#define STARTED_BY "Multiboot"
#include "baremetal.h"

#define FRAMEBUFFER_RGB 1 /* type of a framebuffer, in both */

#endif
