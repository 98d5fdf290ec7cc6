# An nginx of the test's own, with the module: a real master with workers, in the test's directory, on
# ports of its own. Teardown reads its whole error log.
#
# HEADGATE_NGINX names another nginx (built from its sources, say), HEADGATE_MODULE the module to load into it;
# HEADGATE_TEST_VALGRIND=1 runs it under memcheck, HEADGATE_TEST_ASAN=1 or asan => 1 takes the one built
# with AddressSanitizer.
package Headgate::Nginx;
use v5.36;

use Headgate::Http;

# Options: main, events, http, server (configuration text for each level), workers (1), module (1: load
# it), daemon (1: goes to the background, as a binary upgrade needs it), http2 (1: a second port speaks HTTP/2 over cleartext), asan, no_start (only write the files).
sub start ($class, $t, %args) {
    my $name = $args{name} // 'nginx';
    my $self = bless {
        t => $t, name => $name, dir => $t->dir($name), port => $t->port, http2_port => $t->port,
        asan => $args{asan} // $ENV{HEADGATE_TEST_ASAN}, expected => [], %args,
    }, $class;
    $self->{error_log}  = "$self->{dir}/error.log";
    $self->{access_log} = "$self->{dir}/access.log";
    $self->configure(%args);
    return $self if $args{no_start};
    $self->launch;
    $t->on_stop(sub { Headgate::Http->close_all });
    $t->on_teardown(sub { $self->complaints });
    return $self;
}

# An nginx for a configuration that was written elsewhere, judged like any other. conf, port (one it listens on), access_log.
sub adopt_configuration ($class, $t, %args) {
    my $name = $args{name};
    my $self = bless {
        t => $t, name => $name, dir => $t->dir($name), asan => $ENV{HEADGATE_TEST_ASAN}, expected => [],
        foreground => 'daemon off; error_log ' . $t->path("$name/error.log") . ' info; pid ' . $t->path("$name/nginx.pid") . ';', %args,
    }, $class;
    $self->{foreground} .= ' user root root;' if $> == 0;
    $self->{error_log} = "$self->{dir}/error.log";
    $self->launch;
    $t->on_stop(sub { Headgate::Http->close_all });
    $t->on_teardown(sub { $self->complaints });
    return $self;
}

sub port ($self)       { $self->{port} }
sub http2_port ($self) { $self->{http2_port} }
sub process ($self)    { $self->{process} }
sub pid ($self)        { $self->{process}->pid }
sub conf ($self)       { $self->{conf} }

sub module_path ($self) {
    my $build = $self->{t}->root . '/build';
    return $ENV{HEADGATE_MODULE} if $ENV{HEADGATE_MODULE} && !$self->{asan};
    return $ENV{HEADGATE_ASAN_MODULE} // "$build/asan/ngx_http_headgate_module.so" if $self->{asan};
    return "$build/ngx_http_headgate_module.so";
}

# Writes nginx.conf from the texts given; again for a reload with others.
sub configure ($self, %args) {
    $self->{$_} = $args{$_} for keys %args;
    my $load = $self->{module} // 1 ? 'load_module ' . $self->module_path . ";\n" : '';
    my $user = $> == 0 ? "user root root;\n" : '';
    # What an upgrade on the fly hands to the new binary.
    my $keep = $self->{asan} ? "env LD_PRELOAD; env ASAN_OPTIONS;\n" : '';
    my $http2 = $self->{http2} // 1 ? "listen 127.0.0.1:$self->{http2_port} http2;" : '';
    my $temp = join "\n", map { "    ${_}_temp_path $self->{dir}/$_;" } qw(client_body proxy fastcgi uwsgi scgi);
    my ($main, $events, $http, $server) = map { $self->{$_} // '' } qw(main events http server);
    my $log = $http =~ /access_log/ ? '' : "access_log $self->{access_log};";
    $self->{conf} = $self->{t}->write_file("$self->{name}/nginx.conf", <<~"CONF");
        ${load}${user}${keep}daemon @{[ $self->{daemon} ? 'on' : 'off' ]};
        worker_processes @{[ $self->{workers} // 1 ]};
        pid $self->{dir}/nginx.pid;
        error_log $self->{error_log} info;
        $main
        events { worker_connections 4096; $events }
        http {
        $temp
            $log
        $http
            server {
                listen 127.0.0.1:$self->{port};
                $http2
        $server
            }
        }
        CONF
    return $self->{conf};
}

sub environment ($self) {
    return {} if !$self->{asan};
    my $preload = `gcc -print-file-name=libasan.so` =~ s/\n//r;
    return {
        LD_PRELOAD   => $preload,
        ASAN_OPTIONS => "log_path=$self->{dir}/asan:detect_leaks=0:halt_on_error=1:abort_on_error=0",
    };
}

# An absolute path: nginx starts itself again by it.
sub executable ($class_or_self) {
    return $ENV{HEADGATE_NGINX} if $ENV{HEADGATE_NGINX};
    my ($found) = grep { -x } map { "$_/nginx" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin';
    return $found // die "no nginx\n";
}

# Under memcheck, whose findings are complaints of teardown. Leaks of what is reachable at exit are no errors: nginx frees
# its pools, not the library's tables.
sub valgrind ($self) {
    return () if !$ENV{HEADGATE_TEST_VALGRIND} || $self->{asan};
    return (
        'valgrind', '-q', "--log-file=$self->{dir}/valgrind.%p", '--trace-children=yes', '--keep-debuginfo=yes', '--leak-check=full',
        '--show-leak-kinds=definite', '--errors-for-leak-kinds=definite', '--num-callers=25',
        '--suppressions=' . $self->{t}->root . '/t/valgrind.supp',
    );
}

sub command ($self) {
    return (
        $self->valgrind,
        $self->executable, '-p', $self->{dir}, '-e', $self->{error_log}, '-c', $self->{conf},
        $self->{foreground} ? ('-g', $self->{foreground}) : (),
    );
}

sub launch ($self) {
    my $t = $self->{t};
    $t->forget($self->{process}) if $self->{process};
    return $self->launch_daemon if $self->{daemon};
    $self->{process} = $t->start(
        name => $self->{name}, command => [$self->command], env => $self->environment, log => "$self->{dir}/stderr.log",
        stop_signal => 'QUIT', stop_seconds => $ENV{HEADGATE_TEST_VALGRIND} ? 60 : 15,
    );
    $t->wait_for_port($self->{port}, $self->{process});
    # The pid file appears when workers are about to be forked: signals are understood from then on.
    $t->wait_for('the pid file of nginx', sub { -s "$self->{dir}/nginx.pid" });
    return $self;
}

sub launch_daemon ($self) {
    my $t = $self->{t};
    my $starter = $t->start(name => "$self->{name}-start", command => [$self->command], env => $self->environment, log => "$self->{dir}/stderr.log");
    $starter->wait and ($starter->status // 1) == 0 or $t->die_with_logs("$self->{name} did not start");
    $t->forget($starter);
    $t->wait_for('the pid file of nginx', sub { -s "$self->{dir}/nginx.pid" });
    $self->adopt;
    $t->wait_for_port($self->{port}, $self->{process});
    return $self;
}

# The daemon whose pid is in the pid file is this one from now on, for teardown too.
sub adopt ($self) {
    require Headgate::Daemon;
    $self->{t}->forget($self->{process}) if $self->{process};
    my $pid = $self->{t}->read_file("$self->{dir}/nginx.pid") + 0;
    $self->{process} = Headgate::Daemon->new(
        name => $self->{name}, pid => $pid, log => "$self->{dir}/stderr.log", stop_signal => 'QUIT', stop_seconds => 15,
    );
    push $self->{t}{processes}->@*, $self->{process};
    return $self->{process};
}

sub restart ($self) {
    if (my $complaint = $self->{process}->stop) { die $complaint }
    return $self->launch;
}

# `nginx -t` of this configuration: (exit code, what it said).
sub test_configuration ($self) {
    my $environment = $self->environment;
    local @ENV{ keys %$environment } = values %$environment;
    my $command = join ' ', map { quotemeta } $self->command, '-t';
    my $said = `$command 2>&1`;
    return ($? >> 8, $said);
}

# Pids of the workers that serve now.
sub worker_pids ($self) {
    my $children = "/proc/$self->{process}{pid}/task/$self->{process}{pid}/children";
    open my $file, '<', $children or return ();
    return split ' ', <$file> // '';
}

sub reload ($self) {
    my %old = map { $_ => 1 } $self->worker_pids;
    $self->{process}->signal('HUP');
    $self->{t}->wait_for('new workers after a reload', sub { grep { !$old{$_} } $self->worker_pids });
}

# The same, and the old workers are gone: nobody else serves what comes next.
sub reload_and_wait ($self) {
    my %old = map { $_ => 1 } $self->worker_pids;
    $self->reload;
    $self->{t}->wait_for('the old workers to go', sub { !grep { $old{$_} } $self->worker_pids });
}

sub connect ($self, %args) { Headgate::Http->connect(port => $self->{port}, %args) }

# One request on a connection of its own.
sub request ($self, $method, $target, %args) {
    my $http = $self->connect;
    my $response = $http->request($method, $target, %args);
    $http->close;
    return $response;
}

sub get ($self, $target, %args) { $self->request('GET', $target, %args) }

sub error_text ($self) {
    my $text = '';
    for my $path ($self->{error_log}, "$self->{dir}/stderr.log") {
        open my $file, '<:raw', $path or next;
        local $/;
        $text .= <$file> // '';
    }
    return $text;
}

# The access log's lines; waits until there are at least `count` of them.
sub access_lines ($self, $count = 0) {
    my @lines;
    $self->{t}->wait_for(
        "$count lines in the access log",
        sub {
            open my $file, '<', $self->{access_log} or return $count == 0;
            @lines = map { s/\n//r } <$file>;
            return @lines >= $count;
        }
    );
    return @lines;
}

# Lines that this test means to cause, as patterns; everything else alarming is a failure.
sub expect_alarms ($self, @patterns) { push $self->{expected}->@*, @patterns }

sub complaints ($self) {
    my @found;
    for my $line (split /\n/, $self->error_text) {
        next if $line !~ /\[(?:alert|emerg)\]|open socket|Sanitizer|runtime error:/;
        next if grep { $line =~ $_ } $self->{expected}->@*;
        push @found, "$self->{name}: $line";
    }
    for my $report (glob "$self->{dir}/asan.* $self->{dir}/valgrind.*") {
        open my $file, '<', $report or next;
        my @lines = <$file> or next;
        push @found, "$self->{name}: sanitizer report $report:", map { s/\n//r } splice @lines, 0, 60;
    }
    $self->{t}{keep} = 1 if @found;
    # One line repeated ten thousand times says no more than ten of them.
    push my @shown, splice @found, 0, 80;
    push @shown, 'and ' . @found . ' more' if @found;
    return @shown;
}

1;
