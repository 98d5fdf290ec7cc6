# Reload, graceful quit and binary upgrade under load: no request fails that nginx would not have failed without the
# module. The same run without the module's directives is beside it; every 201 is in Redis, and nothing else is.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $redis   = $t->redis(appendfsync => 'no');
my $html    = $t->dir('html');
my $workers = 2;
$t->write_file('html/page', "page\n");
my $pages = "root $html; location = /plain { try_files /page =404; }";
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, daemon => 1, workers => $workers, redis_options => 'timeout=10s connect_timeout=5s',
    limit => 'headgate_limit plan; headgate_limit_mode exact;', http => 'keepalive_requests 100000;',
    locations => "$pages location = /page { headgate_auth api_key; headgate_limit plan; headgate_limit_mode exact; try_files /page =404; }",
);
my $nginx = $edge->nginx;
my $plain = $t->nginx(
    name => 'plain', daemon => 1, workers => $workers, module => 0, http => 'keepalive_requests 100000; default_type text/plain;',
    server => "$pages location = /events { return 201 ok; } location = /page { try_files /page =404; }",
);

my $key   = $edge->add_key;
my $token = $edge->token(claims => { plan => 'unlimited' });
my @kinds = map { Headgate::Http->format_request($_->@*) } (
    ['POST', '/events', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body()],
    ['POST', '/events', headers => [$edge->headers(key => $key)], body => Headgate::Edge::event_body(payload => { data => 'x' x 2000 })],
    ['GET', '/page', headers => ['X-API-Key' => $key]],
);
my $mixed = sub ($number) { $kinds[$number % 3] };

# What nginx is told while it is under load: again and again, at counts of answers.
sub under_load ($server, $requests, %at) {
    return Headgate::Load->run(port => $server->port, connections => 24, requests => $requests, bytes => $mixed, reconnect => 1, at => \%at);
}

# The verdict on two runs: with the module and without.
sub no_worse ($name, $ours, $theirs, $requests) {
    my $stale = delete $ours->{stale} // 0;
    my $usual = delete $theirs->{stale} // 0;
    is_deeply $ours, { 201 => $requests / 3 * 2, 200 => $requests / 3 }, "$name: every request is answered as ever";
    is_deeply $theirs, $ours, '... as without the module';
    diag "$name: sent again on another connection: $stale; without the module: $usual";
}

sub settled ($server) {
    $t->wait_for('the old workers to leave', sub { $server->worker_pids == $workers });
}

my $stored = 0;
sub all_stored ($name, $ours) {
    $stored += $ours->{201} // 0;
    is $redis->event_count, $stored, "$name: what was answered 201 is stored, and nothing else";
    $t->wait_for('all workers to be ready', sub { my $s = $edge->status; $s->{worker_processes} == $workers && $s->{redis}{connections}{ready} == $workers });
    is $edge->status->{published}{inflight_bytes}, 0, '... nothing is left in flight';
}

# -- HUP -------------------------------------------------------------------------------------------------
{
    my @runs;
    for my $server ($nginx, $plain) {
        push @runs, under_load($server, 3000, map { $_ * 500 => sub { $server->process->signal('HUP') } } 1 .. 5);
        settled($server);
    }
    no_worse('five reloads', @runs, 3000);
    all_stored('five reloads', $runs[0]);
    is $edge->status->{published}{events}, $stored, '... and counted: a reload keeps the zone';
}

# -- USR2, WINCH, QUIT: another binary, while the old one goes --------------------------------------------
{
    my @runs;
    for my $server ($nginx, $plain) {
        my $old     = $server->process;
        my $upgrade = sub {
            $old->signal('USR2');
            $t->wait_for('the new master and its workers', sub { -s "$server->{dir}/nginx.pid.oldbin" && -s "$server->{dir}/nginx.pid" && $t->read_file("$server->{dir}/nginx.pid") + 0 != $old->pid });
            $server->adopt;
            $t->wait_for('its workers', sub { $server->worker_pids == $workers });
        };
        push @runs, under_load($server, 3000, 750 => $upgrade, 1500 => sub { $old->signal('WINCH') }, 2250 => sub { $old->signal('QUIT') });
        $t->wait_for('the old master to leave', sub { !$old->alive });
        settled($server);
    }
    no_worse('an upgrade', @runs, 3000);
    all_stored('an upgrade', $runs[0]);
}

# -- QUIT with requests in flight ---------------------------------------------------------------------------
{
    my $event   = Headgate::Edge::event_body(payload => { data => 'x' x 1000 });
    my $bytes   = Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => $event);
    my @waiting = map { $nginx->connect } 1 .. 8;
    # The last of them is still on its way in: its worker has closed its idle connection to Redis when it comes.
    my ($half, $rest) = (substr($bytes, 0, length($bytes) - 100), substr $bytes, -100);
    my $slow = $nginx->connect;
    $slow->send_bytes($half);
    $redis->process->signal('STOP');
    $_->send_bytes($bytes) for @waiting;
    $t->wait_for('them to wait', sub { $edge->status->{published}{inflight_bytes} >= 1000 * @waiting });
    my $master = $nginx->process;
    $master->signal('QUIT');
    $t->wait_for('the listening sockets to be closed', sub { !eval { $nginx->connect->close; 1 } });
    ok $master->alive, 'quit waits for the requests in flight';
    $redis->process->signal('CONT');
    is_deeply [map { $_->read_response->status } @waiting], [(201) x @waiting], '... and all of them are answered';
    $_->close for @waiting;
    ok $master->alive, '... the one that is still sending, too';
    $slow->send_bytes($rest);
    is $slow->read_response->status, 201, '... is answered';
    $slow->close;
    $t->wait_for('nginx to leave', sub { !$master->alive });
    $stored += 1 + @waiting;
    is $redis->event_count, $stored, '... and stored';
    $nginx->launch;
    $edge->wait_until_ready;
}

# -- a worker that dies ---------------------------------------------------------------------------------------
{
    my $counted = $edge->status->{published}{events};
    my $counts  = under_load($nginx, 3000, 1000 => sub {
        # The one that has most of the connections.
        my %open = map { my $pid = $_; $pid => scalar(() = glob "/proc/$pid/fd/*") } $nginx->worker_pids;
        my ($victim) = sort { $open{$b} <=> $open{$a} } keys %open;
        $nginx->expect_alarms(qr/worker process $victim exited on signal 9/);
        kill 'KILL', $victim;
    });
    my $failed  = ($counts->{lost} // 0) + ($counts->{cut} // 0) + ($counts->{stale} // 0);
    ok $failed > 0 && $failed <= 24, 'SIGKILL of a worker costs the requests that it had, no more' or diag explain $counts;
    is_deeply [grep { !/\A(?:200|201|lost|cut|stale)\z/ } keys %$counts], [], '... and the others are answered as ever';
    settled($nginx);
    $t->wait_for('all workers to be ready', sub { my $s = $edge->status; $s->{worker_processes} == $workers && $s->{redis}{connections}{ready} == $workers });
    my $events = $redis->event_count - $stored;
    ok $events >= $counts->{201} && $events <= $counts->{201} + 24, '... every 201 is stored' or diag "$events $counts->{201}";
    my $published = $edge->status->{published};
    is $published->{inflight_bytes}, 0, '... nothing is left in flight';
    ok $published->{events} - $counted >= $counts->{201}, '... and what the dead one has counted is counted';
    $stored += $events;
}

# -- another configuration --------------------------------------------------------------------------------------
{
    my $http   = $nginx->{http};
    my $server = $nginx->{server};
    my $reload = sub (%texts) { $nginx->configure(%texts); $nginx->reload; settled($nginx) };
    my $answers = sub { [map { my $h = $nginx->connect; $h->send_bytes($_); $h->read_response->status } @kinds] };
    ok $edge->status->{published}{events} > 0, 'something is counted';
    $reload->(http => $http =~ s/headgate_zone edge:4m/headgate_zone edge:8m/r);
    $edge->wait_until_ready;
    is $edge->status->{published}{events}, 0, 'a zone of another size begins anew';
    is_deeply $answers->(), [201, 201, 200], '... and serves';
    my $limited = $nginx->get('/page', headers => ['X-API-Key' => $key]);
    ok defined $limited->header('RateLimit'), 'limited by a directive';
    $reload->(server => $server =~ s/headgate_limit plan; headgate_limit_mode exact;//gr);
    is $nginx->get('/page', headers => ['X-API-Key' => $key])->header('RateLimit'), undef, '... which a reload has taken away';
    $reload->(http => $http =~ s/headgate_\w+ [^;]+;//gr =~ s/\$headgate_\w+//gr, server => $pages);
    is_deeply [map { $nginx->get($_)->status } '/plain', '/status'], [200, 404], 'no directive is left, nginx serves on';
    $reload->(http => $http, server => $server);
    $edge->wait_until_ready;
    is_deeply $answers->(), [201, 201, 200], 'and back';
}

$t->done;
