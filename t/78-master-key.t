# Another master key, on the road that docs/operations.md describes, with both engines: deliveries verify before, between and
# after all steps, what runs goes on, a `migrate reseal` that is killed is begun anew, and the old key alone opens nothing.
use v5.36;
use Test::More;

use Headgate::Postgres;
use Headgate::Sidecar;
use Headgate::Test;

Headgate::Postgres->need;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my ($documented) = $t->read_file($t->root . '/docs/operations.md') =~ /^<!-- test: master-key, t\/78-master-key\.t -->\n```sh\n(.*?)^```$/ms or die 'no example';
my @documented = split /\n/, $documented;
is scalar @documented, 8, 'the documented example';

for my $engine (qw(sqlite postgres)) {
    my @store = $engine eq 'postgres' ? (postgres => Headgate::Postgres->start($t)) : ();
    $redis->command('FLUSHALL');
    my $h = Headgate::Sidecar->init($t, redis => $redis, dir => $engine, @store);
    -x $h->executable_with_failpoints or BAIL_OUT('build/headgate-failpoints is missing: make failpoints');
    $h->serve->wait_until_healthy;
    my $front = $h->front(name => "$engine-nginx");

    # Five webhooks, so that more than one batch is sealed anew; the first one's receiver verifies.
    my $port  = $t->port;
    my @hooks = map {
        $h->run_json('webhook', 'create', '--org', $h->org, '--url', "http://127.0.0.1:$port/$_", '--events', $_ ? 'none.*' : 'order.*', '--sign-ed25519')
    } 0 .. 4;
    my $receiver;
    my $receive = sub ($name, $secret) {
        $receiver->stop if $receiver;
        $receiver = $t->start(
            name => "$engine receive $name", log => $t->path("$engine-receive-$name.log"),
            command => [$h->executable, 'receive', '--listen', "127.0.0.1:$port", '--json', '--secret', $secret, '--public-key', $hooks[0]{public_key}],
        );
        $t->wait_for_port($port, $receiver);
    };
    $receive->('first', $hooks[0]{secret});
    my $delivers = sub ($when) {
        my $sent = $h->run_json('event', 'send', '--url', 'http://127.0.0.1:' . $front->port, '--key', $h->api_key, '--type', 'order.paid', '--source', 'cli', '--payload', '{"n":1}');
        $t->wait_for("the event sent $when", sub { $receiver->log_text =~ /"id":"$sent->{id}"/ });
        like $receiver->log_text, qr/"id":"$sent->{id}".*"verified":true/, "$engine: $when: delivered, and both signatures verify";
    };
    my $fails_with = sub ($pattern, $environment, @words) {
        local @ENV{ keys %$environment } = values %$environment;
        my ($code, $said) = $h->run(@words);
        is $code, 1, "$engine: headgate @words: exit 1" or diag $said;
        like $said, $pattern, '... and says why';
    };
    my $kids = sub { my %kids; $kids{ (split /:/, $_->{secret})[1] }++ for $h->sql('SELECT secret FROM webhook_secrets'); \%kids };
    $delivers->('before');

    my %between = (
        # Both keys are given: nothing is sealed anew yet.
        'systemctl restart headgate' => sub ($nth) {
            $h->process->stop;
            $h->serve->wait_until_healthy;
            $delivers->($nth == 1 ? 'with both keys' : 'with the new key alone');
            return if $nth != 1;
            my ($code, $said) = $h->run('check-config');
            is $code, 0, "$engine: check-config" or diag $said;
            like $said, qr/warning.*\d+ secrets are encrypted under older master keys; run: headgate migrate reseal/, '... says what is to be done';
            $fails_with->(qr/the master key is not the one.*security\.previous_master_key_files/, { HEADGATE_SECURITY_PREVIOUS_MASTER_KEY_FILES => '' }, 'org', 'list');
            $fails_with->(qr/the master key is not the one/, { HEADGATE_SECURITY_MASTER_KEY_FILE => 'master.key', HEADGATE_SECURITY_PREVIOUS_MASTER_KEY_FILES => '' }, 'org', 'list');
            $fails_with->(qr/none\.key: No such file/, { HEADGATE_SECURITY_PREVIOUS_MASTER_KEY_FILES => 'none.key' }, 'check-config');

            my $killed = $t->start(
                name => "$engine reseal, killed", log => $t->path("$engine-killed.log"), env => { HEADGATE_FAILPOINT => 'in_reseal:3' },
                command => [$h->executable_with_failpoints, qw(migrate reseal --batch-rows 1 --config), $h->config],
            );
            $killed->wait(20);
            is $killed->describe_exit, 'signal 9', "$engine: `migrate reseal` is killed in the middle" or diag $killed->log_text;
            is_deeply [sort { $a <=> $b } values $kids->()->%*], [2, 3], '... two of five secrets are under the new key';
            $delivers->('half sealed anew');
        },
        'headgate migrate reseal' => sub ($nth) {
            is_deeply [values $kids->()->%*], [5], "$engine: all secrets are under one key";
            $delivers->('sealed anew');
            my $again = $h->run_json('migrate', 'reseal');
            is_deeply $again, { resealed => 0, done => JSON::PP::true }, '... and once more finds nothing to do';
            my ($code, $said) = $h->run('check-config');
            like $said, qr/previous_master_key_files can be emptied/, '... which check-config says too';
        },
        'headgate check-config' => sub ($nth) {
            # Written while the new key is the only one, beside what was sealed anew.
            my $rotated = $h->run_json('webhook', 'rotate-secret', $hooks[0]{id}, '--grace', '1h');
            like $rotated->{secret}, qr/\Awhsec_/, "$engine: a secret is rotated under the new key";
            $receive->('rotated', $rotated->{secret});
            $delivers->('after a rotation');
            $fails_with->(qr/the master key is not the one/, { HEADGATE_SECURITY_MASTER_KEY_FILE => 'master.key' }, @$_) for ['check-config'], [qw(org list)];
            chmod 0644, $t->path("$engine/master-2.key");
            $fails_with->(qr/master-2\.key: others than its owner/, {}, 'check-config');
            chmod 0600, $t->path("$engine/master-2.key");
        },
    );

    my %times;
    for my $line (@documented) {
        my $command = $line =~ s{/etc/headgate}{$t->path($engine)}er =~ s/\Aheadgate /quotemeta($h->executable) . ' '/er;
        if ($command !~ /^systemctl /) {
            local $ENV{HEADGATE_CONFIG} = $h->config;
            my $said = `cd @{[ quotemeta $t->path($engine) ]} && bash -c @{[ quotemeta $command ]} 2>&1`;
            is $?, 0, "$engine: $line" or diag $said;
        }
        $between{$line}->(++$times{$line}) if $between{$line};
    }
    is_deeply [sort keys %between], [sort keys %times], "$engine: all steps were taken";
    $receiver->stop;
    $h->process->stop;
    $front->process->stop;
}

$t->done;
