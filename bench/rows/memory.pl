# The worker's memory after very many callers: bounded by the zone.
use v5.36;
use utf8;

use Headgate::Bench::Credentials qw(credentials make_api_keys make_tokens);
use Headgate::Bench::Http qw(edge_nginx get_load load_http);
use Headgate::Bench::Measure qw(memory_mib);
use Headgate::Bench::Redis;
use Headgate::Bench::Static qw(content);

my $CALLERS  = 100_000;    # of each kind
my $ZONE_MIB = 64;

return {
    title    => "memory of the worker after $CALLERS API keys and tokens of $CALLERS subjects, each limited by its plan",
    against  => "the worker after one caller, plus the zone of $ZONE_MIB MiB",
    ratio    => 'theirs/ours',
    at_least => 1,
    lines    => [
        [bound_mib     => 'resident memory, MiB'],
        [zone_mib      => 'of this the zone'],
        [private_mib   => 'private memory without the zone'],
        [keys_mib      => 'the same after the API keys alone'],
        [keys_zone_mib => 'of the zone after the API keys alone'],
        [rate          => 'requests per second, all callers new'],
    ],
    run => sub ($t, $options, $say) {
        my $redis       = Headgate::Bench::Redis->start($t);
        my $credentials = credentials($t, $redis);
        $say->("making 2 x $CALLERS credentials");
        my $keys_file   = make_api_keys($t, $redis, $credentials, $CALLERS);
        my $tokens_file = make_tokens($t, 'HS256', $credentials->{secret_file}, $CALLERS);
        my $edge = edge_nginx(
            $t, $redis, $credentials, zone => "${ZONE_MIB}m",
            locations => 'location = /guarded { headgate_auth jwt api_key; headgate_limit plan; ' . content($t, 'gif') . ' }',
        );
        my $refused = $edge->get('/guarded')->status;
        $t->die_with_logs("without a credential: $refused") if $refused != 401;
        my %load   = (server => $edge, redis => $redis, path => '/guarded');
        my $memory = sub { memory_mib($edge->worker_pids, $ZONE_MIB) };

        # One caller first, so that the memory of 64 connections is not counted as the callers'.
        load_http($t, %load, load => get_load($credentials->{token_file}), seconds => $options->{seconds});
        my $before = $memory->();
        $say->("$CALLERS API keys");
        my $keys_run   = load_http($t, %load, load => get_load($keys_file, 'api-key', 'once'), seconds => 600);
        my $after_keys = $memory->();
        $say->("$CALLERS tokens");
        my $tokens_run = load_http($t, %load, load => get_load($tokens_file, 'token', 'once'), seconds => 600);
        my $after      = $memory->();
        for my $run ($keys_run, $tokens_run) {
            $t->die_with_logs("$run->{requests} requests for $CALLERS callers") if $run->{requests} < $CALLERS;
        }

        my %ours = (
            bound_mib   => $after->{resident},
            zone_mib    => $after->{zone},
            private_mib => $after->{private},
            keys_mib    => $after_keys->{private}, keys_zone_mib => $after_keys->{zone},
            rate        => 2 * $CALLERS / ($CALLERS / $keys_run->{rate} + $CALLERS / $tokens_run->{rate}),
        );
        my %theirs = (
            bound_mib => $before->{resident} - $before->{zone} + $ZONE_MIB, zone_mib => $before->{zone}, private_mib => $before->{private},
        );
        return {
            ours       => [\%ours],
            theirs     => [\%theirs],
            conditions => [
                "GET /guarded (headgate_auth jwt api_key, headgate_limit plan), each caller once, no request refused or lost; one worker",
                sprintf('private memory without the zone grew by %.2f MiB; zone %d MiB', $after->{private} - $before->{private}, $ZONE_MIB),
                "theirs: what the worker had before, and in the first line the zone's $ZONE_MIB MiB on top; measured once",
                $redis->describe,
            ],
        };
    },
};
