#include <config.h>
#include "image.h"
GQuark virImageErrorQuark(void) { return g_quark_from_static_string("vir-image-error"); }
