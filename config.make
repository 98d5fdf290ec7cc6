# Flags for our objects only; nginx's own stay as they are. Private: not for the precompiled header that they need first.
cat << END >> $NGX_MAKEFILE

HEADGATE_FLAGS = -std=c++20 -Wall -Wextra -Werror -fvisibility=hidden -fvisibility-inlines-hidden
$NGX_OBJS/addon/ngx_module/%.o: private CFLAGS += \$(HEADGATE_FLAGS) -include $NGX_OBJS/addon/precompiled.h
$NGX_OBJS/addon/common/%.o: private CFLAGS += \$(HEADGATE_FLAGS) -include $NGX_OBJS/addon/precompiled.h

$NGX_OBJS/addon/precompiled.h.gch: $ngx_addon_dir/ngx_module/precompiled.h $ngx_addon_dir/ngx_module/ngx.h
	cp $ngx_addon_dir/ngx_module/precompiled.h $NGX_OBJS/addon/precompiled.h
	\$(CC) -x c++-header -c -fPIC \$(CFLAGS) \$(HEADGATE_FLAGS) \$(ALL_INCS) -o \$@ $NGX_OBJS/addon/precompiled.h

END
