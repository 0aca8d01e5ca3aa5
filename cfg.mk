# Project settings of gnulib's maint.mk.  SPDX-License-Identifier: LGPL-2.1-or-later
