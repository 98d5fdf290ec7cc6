# Flags for our objects only; nginx's own stay as they are.
cat << END >> $NGX_MAKEFILE

$NGX_OBJS/addon/ngx_module/%.o: CFLAGS += -std=c++20 -Wall -Wextra -Werror -fvisibility=hidden -fvisibility-inlines-hidden
$NGX_OBJS/addon/common/%.o: CFLAGS += -std=c++20 -Wall -Wextra -Werror -fvisibility=hidden -fvisibility-inlines-hidden

END
